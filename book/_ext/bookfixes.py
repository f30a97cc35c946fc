"""What the book takes out of the theme: everything that talks to another host, or fails without one. And whose it is."""

from address import of_this_build


def without_thebe(app, pagename, templatename, context, doctree):
    # Jupyter Book always loads sphinx-thebe, twice over, and its second copy throws on every page.
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in str(getattr(script, "filename", script)) and "THEBE" not in str(getattr(script, "attributes", ""))
    ]


def at_its_own_address(app, config):
    # A fork that publishes from GitHub Actions gets buttons that lead to the fork, without changing a line.
    if address := of_this_build():
        config.html_theme_options |= {"repository_url": address, "repository_provider": "github"}


def setup(app):
    app.connect("config-inited", at_its_own_address, priority=100)  # before the theme takes it apart
    app.connect("html-page-context", without_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
