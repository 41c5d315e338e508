"""Claims in, `VerifiedIdentity` out: issuers, tokens, delegation. The only package that mints a `VerifiedIdentity`."""
