"""The console: pages for analysts, made on the server from the store, in the same app as the API.

standing, view, evidence_path -> pages (rendering), forms (CSRF) -> overview, accounts, account, campaigns,
templates_page, trying, login -> routes -> service.http.app
"""
