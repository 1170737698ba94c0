"""probewatch's pure core: prompts in, labels, evidence and verdicts out. See `pipeline` for the composition root, and
README.md for the picture and the order in which modules import one another.
"""
