"""What a labelled run gives to others: STIX, OCSF and CSV. Accounts are pseudonyms in all of them; no prompt text."""
