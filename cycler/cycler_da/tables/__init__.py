"""Tables of numbers: rows with intervals, written as JSON and as the Markdown made from it."""
