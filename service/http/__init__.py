"""The scoring service: requests in, labelled by the same pipeline as batches, recorded, answered.

settings, store -> problems, parsing -> scorer, refresher -> security, limits -> routes -> app -> server
"""
