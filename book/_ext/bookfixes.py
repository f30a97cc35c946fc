"""What the book takes out of the theme: everything that talks to another host, or fails without one."""


def without_thebe(app, pagename, templatename, context, doctree):
    # Jupyter Book always loads sphinx-thebe, twice over, and its second copy throws on every page.
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in str(getattr(script, "filename", script)) and "THEBE" not in str(getattr(script, "attributes", ""))
    ]


def setup(app):
    app.connect("html-page-context", without_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
