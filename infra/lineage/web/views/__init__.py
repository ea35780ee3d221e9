"""The pages, one file for each part; each view takes the site and what was asked, and makes an answer."""
