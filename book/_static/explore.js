// Sliders and buttons without a kernel: every picture is already on the page, they only choose which one is shown.
for (const figure of document.querySelectorAll("figure.explore")) {
  const frames = [...figure.querySelectorAll(".explore-frame")];
  const sliders = [...figure.querySelectorAll(".explore-controls input[type=range]")];
  const controls = [...figure.querySelectorAll(".explore-controls > div")];

  const show = () => {
    for (const slider of sliders) {
      const label = JSON.parse(slider.dataset.labels)[slider.value];
      slider.setAttribute("aria-valuetext", label);
      slider.parentElement.querySelector("output").value = label;
    }
    const chosen = (control) => control.querySelector("input[type=range], input:checked").value;
    const key = controls.map(chosen).join(",");
    for (const frame of frames) frame.hidden = frame.dataset.key !== key;
  };

  figure.addEventListener("input", show);
  // A browser may put sliders back to where the reader left them, after this script has run.
  window.addEventListener("pageshow", show);
  show();

  // A slider over time can play: from where it stands, or from the start if it stands at the end.
  for (const button of figure.querySelectorAll(".explore-play")) {
    const slider = button.parentElement.querySelector("input");
    const last = Number(slider.max);
    let clock;
    const stop = () => {
      clearInterval(clock);
      button.setAttribute("aria-pressed", "false");
    };
    const go = (position) => {
      slider.value = position;
      show();
      if (position >= last) stop();
    };
    button.addEventListener("click", () => {
      if (button.getAttribute("aria-pressed") === "true") return stop();
      button.setAttribute("aria-pressed", "true");
      if (Number(slider.value) === last) go(0);
      clock = setInterval(() => go(Number(slider.value) + 1), Math.min(800, 6000 / last));
    });
    // The reader's hand goes before. (Moves by this script raise no input event.)
    for (const event of ["input", "pointerdown", "keydown"]) slider.addEventListener(event, stop);
    window.addEventListener("pagehide", stop);
  }
}
