// On the page of error messages: paste one, and those it resembles come to the top.
document.addEventListener('DOMContentLoaded', () => {
  const box = document.getElementById('pasted-error');
  if (!box) return;
  const words = (text) => text.toLowerCase().match(/[a-z_][a-z_0-9]{2,}/g) || [];
  const entries = [...document.querySelectorAll('.error')].map((element) => {
    const code = element.closest('div[class*="highlight-text"]') || element;
    const next = code.nextElementSibling;
    const heading = code.closest('section')?.querySelector('h2');
    return {
      code,
      note: next && next.tagName === 'P' ? next : null,
      words: new Set(words(code.textContent)),
      area: heading ? heading.firstChild.textContent : '',
    };
  });
  const counts = new Map();
  entries.forEach((e) => e.words.forEach((w) => counts.set(w, (counts.get(w) || 0) + 1)));
  const weight = (word) => Math.log((entries.length + 1) / (counts.get(word) || entries.length));
  const list = document.getElementById('found-errors');
  box.addEventListener('input', () => {
    const pasted = new Set(words(box.value));
    const ranked = entries.map((e) => {
      let shared = 0, all = 0;
      e.words.forEach((w) => { all += weight(w); if (pasted.has(w)) shared += weight(w); });
      return { e, score: all ? shared * shared / all : 0 };
    }).filter((r) => r.score > 1).sort((a, b) => b.score - a.score)
      .filter((r, _, all) => r.score > all[0].score / 3).slice(0, 4);
    list.replaceChildren();
    if (pasted.size && !ranked.length) {
      list.textContent = 'Nothing here resembles it.';
    }
    ranked.forEach(({ e }) => {
      const area = document.createElement('p');
      area.textContent = e.area;
      area.className = 'area';
      list.append(area, e.code.cloneNode(true));
      if (e.note) list.append(e.note.cloneNode(true));
    });
  });
});
