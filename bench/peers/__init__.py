"""Other servers that do a part of what chatd does, to be measured beside it.

None of them stores anything, or hears whether a message has arrived; only those of XMPP know users.
"""
