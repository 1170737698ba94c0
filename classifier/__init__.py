"""probewatch's pure core: prompts in, labels, evidence and verdicts out. See `pipeline` for the composition root.

Import order, each module importing only from those before it:
types, errors, text, encoder, lexicon, shingles, induction, templates, heads, transformer, labeler, eprocess, evidence,
verdicts, families, campaigns, bundle, pipeline.
"""
