"""Parts of `prompt`: a node's context, templates, language models and scores of molecules."""
