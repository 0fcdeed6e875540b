"""habitus finds users whose behaviour does not fit, in an e-commerce lakehouse."""
