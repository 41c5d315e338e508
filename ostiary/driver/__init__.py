"""Carries out what sessions ask for: the only package where session bytes meet sockets."""
