"""Patient monitors: recordings and live HL7 in; freshness, limits and hypotension out."""
