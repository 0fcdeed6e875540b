"""The report: bounded records in, one HTML page or terminal text out."""
