// A formula wider than the page scrolls in its box: the keyboard has to reach it, as the theme sees to for code.
window.addEventListener("load", () => {
  const reach = () => {
    for (const formula of document.querySelectorAll("div.math")) {
      if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
    }
  };
  reach();
  window.addEventListener("resize", reach);
});
