"""JSON-RPC 2.0, one UTF-8 object per line, both ways at once. Knows messages, not what they mean.

``messages``   the table of error codes; reading and writing single messages
``params``     the parameters of each method
``framing``    bytes into lines, with a limit
``peer``       matches requests and replies, in both directions
``stdio``      the gate's own stdin and stdout
``memory``     the same without a process, for tests and embedding
"""
