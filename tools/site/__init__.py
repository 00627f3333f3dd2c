"""The site of the pages, with search: `python -m tools.site [FOLDER]`, by default build/site.

The pages are those of the repository, unchanged, as GitHub shows them. Sphinx and MyST read them, because MyST follows
CommonMark as GitHub does. Nothing in the site is loaded from elsewhere, so it can be read without a network.
"""
