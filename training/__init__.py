"""Offline scripts, one script one artefact: from data files to the bundle, and the sample traffic."""
