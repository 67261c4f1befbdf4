"""Parts of `serve`: the layout of the web app, its request handlers and how it renders results."""
