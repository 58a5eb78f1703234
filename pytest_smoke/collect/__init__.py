"""pytest's side: recipes as files and items, and what is said of them."""
