"""The scoring service: requests in, labelled by the same pipeline as batches, recorded, answered.

settings, store -> problems, parsing -> turns -> scoring_process -> scorer, refresher -> security, limits -> routes
-> door -> app, protocol -> server
"""
