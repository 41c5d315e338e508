"""HTTP/1.1 as a base: what every connector that rides on HTTP reads, judges and writes by."""
