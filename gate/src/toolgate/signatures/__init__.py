"""Signatures, whatever is signed: an approver's statement, a policy document.

``dsse``  the envelope that a statement is signed in
``keys``  Ed25519 key pairs and their texts
"""
