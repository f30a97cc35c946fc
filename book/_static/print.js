// On paper in light colours, also from a dark page, and with every claim.
let before;
let closed = [];
window.addEventListener("beforeprint", () => {
  before = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
  closed = [...document.querySelectorAll(":is(.claim-chapter, .all-claims):not([open])")];
  for (const chapter of closed) chapter.open = true;
});
window.addEventListener("afterprint", () => {
  document.documentElement.dataset.theme = before;
  for (const chapter of closed) chapter.open = false;
});
