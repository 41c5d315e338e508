"""What a target says of itself: read over a side connection, kept as fresh as promised."""

from ostiary.catalogue.holder import Catalogue
from ostiary.catalogue.read import read_snapshot

__all__ = ["Catalogue", "read_snapshot"]
