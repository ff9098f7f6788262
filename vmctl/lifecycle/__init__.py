"""The verbs: what `up`, `halt`, `destroy`… do, as flat tuples of named steps over any driver."""
