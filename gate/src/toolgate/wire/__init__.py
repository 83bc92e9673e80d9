"""Messages, one UTF-8 JSON object per line, both ways at once. Not what the gate does with them.

``messages``   the table of error codes; reading and writing single messages of JSON-RPC 2.0
``codec``      how a connection's messages are written: JSON-RPC 2.0, unless it is told otherwise
``lodestar``   the same messages as the clients of Lodestar write them
``params``     the parameters of each method
``framing``    bytes into lines, with a limit
``peer``       matches requests and replies, in both directions
``stdio``      the gate's own stdin and stdout
``memory``     the same without a process, for tests and embedding
"""
