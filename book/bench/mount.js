// Fetches a bench when it comes into view. Should that fail, what it stands for is shown instead, and a sentence says so.

const fallBack = (place, error) => {
  document.documentElement.classList.add("bench-failed");
  place.classList.add("failed");
  place.replaceChildren(
    Object.assign(document.createElement("p"), {
      className: "bench-sentence",
      textContent: `The bench, which trains networks in this page, cannot run here (${error.message}). The rest of the page does not need it.`,
    }),
  );
};

const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      import(`./${target.dataset.bench}.js`).then(({ mount }) => mount(target)).catch((error) => fallBack(target, error));
    }
  },
  { rootMargin: "200px" },
);

for (const place of document.querySelectorAll(".bench")) seen.observe(place);
