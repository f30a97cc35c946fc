// Filters for the table of all claims. Without this script the table shows every row and no filter.
for (const form of document.querySelectorAll("form.claim-filter")) {
  const rows = [...form.parentElement.querySelectorAll(".claim-table tbody tr")];

  const filter = () => {
    const words = form.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden =
        (form.verdict.value && row.dataset.verdict !== form.verdict.value) ||
        (form.chapter.value && row.dataset.chapter !== form.chapter.value) ||
        !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    form.querySelector("output").value = `${shown} of ${rows.length} shown`;
  };

  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("pageshow", filter);
  filter();
}
