"""Everything that was curated, as one: which images there are, what is known of each, and where it runs."""
