// Filters for the list of all claims. Without this script every chapter can be unfolded, and shows all of its claims.
for (const form of document.querySelectorAll("form.claim-filter")) {
  const chapters = [...form.parentElement.querySelectorAll(".claim-chapter")];
  const total = form.parentElement.querySelectorAll(".claim-row").length;

  const filter = () => {
    const words = form.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const asked = words.length || form.verdict.value || form.chapter.value;
    let shown = 0;
    for (const chapter of chapters) {
      let here = 0;
      for (const row of chapter.querySelectorAll(".claim-row")) {
        const text = row.textContent.toLowerCase();
        row.hidden =
          (form.verdict.value && row.dataset.verdict !== form.verdict.value) ||
          (form.chapter.value && chapter.dataset.chapter !== form.chapter.value) ||
          !words.every((word) => text.includes(word));
        here += !row.hidden;
      }
      chapter.hidden = !here;
      if (asked) chapter.open = here > 0;
      shown += here;
    }
    form.querySelector("output").value = `${shown} of ${total} shown`;
  };

  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("pageshow", filter);
  filter();
}
