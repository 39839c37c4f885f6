"""Archived cycles made again: as they were (`again`), from other observations (`whatif`), for one number (`impact`)."""
