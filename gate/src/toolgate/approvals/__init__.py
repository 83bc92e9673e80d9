"""Holds and approvals: what is asked of people, and when their answer counts.

Pure.

``hold``       what is held, and the digest that names exactly that
``statement``  what an approver signs
``tally``      which statements count, and what they come to
"""
