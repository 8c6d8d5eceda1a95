"""The inventory of all curated images: what is known of each, where each runs, and the rescan of them."""
