// Sliders without a kernel: every picture is already on the page, a slider only chooses which one is shown.
for (const figure of document.querySelectorAll("figure.explore")) {
  const frames = [...figure.querySelectorAll(".explore-frame")];
  const sliders = [...figure.querySelectorAll(".explore-controls input[type=range]")];

  const show = () => {
    for (const slider of sliders) {
      const label = JSON.parse(slider.dataset.labels)[slider.value];
      slider.setAttribute("aria-valuetext", label);
      slider.parentElement.querySelector("output").value = label;
    }
    const key = sliders.map((slider) => slider.value).join(",");
    for (const frame of frames) frame.hidden = frame.dataset.key !== key;
  };

  figure.addEventListener("input", show);
  // A browser may put sliders back to where the reader left them, after this script has run.
  window.addEventListener("pageshow", show);
  show();
}
