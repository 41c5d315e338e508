"""Assembly: a configuration in, a running gateway out. The only package that knows every other."""

from ostiary.app.supervisor import serve

__all__ = ["serve"]
