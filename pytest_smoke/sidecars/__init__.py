"""What rides alongside a smoke and needs no model: the mending of spans, the sorting of a tagger's errors. Pure."""
