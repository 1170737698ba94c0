"""probewatch's pure core: prompts in, labels, evidence and verdicts out. See `pipeline` for the composition root.

Import order, each module importing only from those before it:
types, errors, reveal, confusables, text, encoder, lexicon, shingles, induction, discovery, signatures, templates,
signing, heads, transformer, labeler, exceptions, eprocess, evidence, verdicts, families, campaigns, bundle,
certification, catalogue_folder, catalogue, exchange, pipeline.
"""
