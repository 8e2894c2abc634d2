"""Protocols that ringspan recognises, one module each."""
