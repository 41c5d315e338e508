"""`make demo`: a shop's database behind a gateway, and a guided tour of what that changes. `python -m ostiary.demo`."""
