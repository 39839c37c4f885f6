"""Pictures and pages made from published files; nothing here imports torch or changes a product."""
