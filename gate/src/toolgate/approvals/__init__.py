"""Holds and approvals: what is asked of people, and when their answer counts.

Pure but for key files.

``hold``       what is held, and the digest that names exactly that
``statement``  what an approver signs
``dsse``       the envelope it is signed in
``keys``       Ed25519 key pairs and their texts
``tally``      which statements count, and what they come to
"""
