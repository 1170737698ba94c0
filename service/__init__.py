"""What users run: the command line, the batch labeller, the HTTP service and its console, reports and exports."""
