"""What Toolgate's adapters for frameworks share; not for anybody else.

An adapter says what is its framework's own: how a tool is wrapped, which arguments are injected,
how a hold and a failed call look there. How a call is proposed, waited for and told of is here,
once. It imports nothing but the client and the standard library, and the client does not import it.
The adapters of a release are made for the client of that release: names may change in any.
"""
