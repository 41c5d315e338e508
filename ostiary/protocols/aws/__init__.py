"""AWS's API: signatures, operations, resources, and answers in the words of each service."""
