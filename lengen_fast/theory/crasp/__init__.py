"""C-RASP[periodic, local] (arXiv 2410.02140, section 4): the language, its checker and its interpreter."""
