//! The HTTP faces: `/1.0` (the seed), `/healthz`, `/readyz`, `/metrics`.
