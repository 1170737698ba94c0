"""The store: what the service knows of accounts, on SQLite or PostgreSQL. One schema; every statement stands here.

schema -> codec -> opening -> (recording, standing, campaigns, keys, reviews, erasure) -> http
"""
