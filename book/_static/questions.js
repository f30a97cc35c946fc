// Keeps the reader's predictions in this browser, holds back what was measured until there is one, and counts. Without this
// script, and on paper, everything stands open.
const kept = {
  name: "bncourse-answers",
  read() {
    try {
      return JSON.parse(localStorage.getItem(this.name)) ?? {};
    } catch {
      return {};
    }
  },
  write(key, answer) {
    try {
      localStorage.setItem(this.name, JSON.stringify({ ...this.read(), [key]: answer }));
    } catch {
      // A browser that keeps nothing: the page works, it only forgets.
    }
  },
};

// How many open questions each part of the page waits for: two may be asked before one run.
const waits = new Map();
const wait = (part, more) => {
  waits.set(part, (waits.get(part) ?? 0) + more);
  part.classList.toggle("waiting", waits.get(part) > 0);
};

for (const question of document.querySelectorAll("fieldset[data-question]")) {
  const key = question.dataset.question;
  const outcome = document.querySelector(`.outcome[data-question="${key}"]`);
  const right = outcome?.dataset.answer ?? question.dataset.answer;
  const cell = (tag) => tag.closest(".cell") ?? tag;

  // What lies between the question and its outcome, both of which are cells of one section or of two neighbouring ones. Other
  // questions stay.
  let between = [];
  if (outcome) {
    const range = document.createRange();
    range.setStartAfter(cell(question));
    range.setEndBefore(cell(outcome));
    const parts = cell(question).closest("article").querySelectorAll("section > *, section");
    for (const part of parts)
      if (part.tagName !== "SECTION" && range.comparePoint(part, 0) === 0 && part !== cell(outcome)) between.push(part);
    between.push(cell(outcome));
    // And what the outcome is followed by, up to the next heading: the verdicts and what they mean.
    for (let next = cell(outcome).nextElementSibling; next && next.tagName !== "SECTION"; next = next.nextElementSibling) {
      if (next.querySelector("fieldset[data-question]")) break;
      between.push(next);
    }
    between = between.filter((part) => !part.querySelector("fieldset[data-question]"));
  }

  const skip = document.createElement("button");
  const show = () => {
    if (!skip.isConnected) return;
    for (const part of between) wait(part, -1);
    skip.remove();
  };
  const mark = (answer) => {
    show();
    const told = answer === right ? "You predicted this." : `You predicted: ${answer}.`;
    if (outcome) {
      let note = outcome.querySelector(".predicted");
      if (!note) outcome.append(" ", (note = document.createElement("span")));
      note.className = "predicted";
      note.textContent = told;
      outcome.dataset.right = answer === right;
    } else {
      for (const reply of question.querySelectorAll("[data-reply]")) reply.hidden = reply.dataset.reply !== answer;
      for (const replies of question.querySelectorAll("details")) replies.open = true;
    }
  };

  const before = kept.read()[key]?.answer;
  if (before !== undefined && [...question.querySelectorAll("input")].some((input) => input.value === before)) {
    for (const input of question.querySelectorAll("input")) input.checked = input.value === before;
    mark(before);
  } else if (outcome) {
    for (const part of between) wait(part, 1);
    skip.type = "button";
    skip.className = "predict-skip";
    skip.textContent = "Show without predicting";
    skip.addEventListener("click", show);
    question.append(skip);
    // Whoever comes for a verdict, or searches the page, finds it.
    const wanted = () => {
      const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
      if (target && between.some((part) => part.contains(target))) {
        show();
        target.scrollIntoView();
      }
    };
    window.addEventListener("hashchange", wanted);
    wanted();
  }
  question.addEventListener("change", (event) => {
    // The first answer counts.
    if (kept.read()[key] === undefined) kept.write(key, { answer: event.target.value, right: event.target.value === right });
    mark(event.target.value);
  });
}

for (const score of document.querySelectorAll("#score")) {
  const answers = Object.values(kept.read());
  const asked = Number(score.dataset.questions);
  if (answers.length)
    score.textContent = `${answers.filter((one) => one.right).length} of ${answers.length} right; the book asks ${asked}.`;
}

// One switch for all folded code, remembered.
const folded = [...document.querySelectorAll(".cell.tag_hide-input details.hide, .cell.tag_hide-cell details.hide")];
if (folded.length) {
  const label = document.createElement("label");
  const box = Object.assign(document.createElement("input"), { type: "checkbox" });
  label.className = "code-switch";
  label.append(box, " show all code");
  // In a corner of the first of them, where it moves nothing that is being read.
  folded[0].closest(".cell").append(label);
  const name = "bncourse-code";
  const set = () => {
    for (const part of folded) part.open = box.checked;
  };
  try {
    box.checked = localStorage.getItem(name) === "shown";
  } catch {
    box.checked = false;
  }
  if (box.checked) set();
  box.addEventListener("change", () => {
    set();
    try {
      localStorage.setItem(name, box.checked ? "shown" : "folded");
    } catch {
      // As above.
    }
  });
}

// A definition that is in the way goes with Escape, until the next one is asked for.
const definitions = document.documentElement.classList;
document.addEventListener("keydown", (event) => event.key === "Escape" && definitions.add("no-definitions"));
for (const event of ["pointerout", "focusout"])
  document.addEventListener(event, ({ target }) => target.matches?.(".term") && definitions.remove("no-definitions"));
