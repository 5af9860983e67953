// The board. It shows states as the server sends them, or the one that is written into the page.
// See state.go for what a state has. It changes only what differs, so that an update is cheap.

const words = {
  en: {
    opening: 'Opening', intake: 'Taking bets', drawn: 'Draw', over: 'Over', language: 'Language',
    betsStored: 'Bets stored', agenciesReported: 'Agencies reported', winners: 'Winning bets',
    rateNow: 'Bets a second', rateMean: 'Bets a second, on average',
    of: (n) => `of ${n}`,
    agencies: 'Agencies', agency: 'Agency', state: 'State', bets: 'Bets', shout: 'The draw!',
    w: 'Waiting', u: 'Uploading', r: 'Reported', s: 'Served',
    rateOverTime: 'Bets a second over time', peak: (n) => `Peak ${n}`, noSeries: 'No bets have come since the server started',
    chart: (peak, time) => `Bets a second over ${time}, at most ${peak}`,
    load: (connections, queue) => `Open connections: ${connections} · Queue for the disk: ${queue} full`,
    drawMark: 'draw',
    openingText: 'The server reads what is stored, and takes bets soon',
    noLeaderText: 'No server leads, so no bet is taken. The servers elect a leader',
    intakeTitle: 'Taking bets',
    intakeText: (n) => (n === '1' ? 'The draw takes place when the agency has reported' :
      `The draw takes place when all ${n} agencies have reported`),
    drawTitle: 'The draw has taken place',
    drawText: (time) => `At ${time}`, drawEarlier: 'It was before this server started', drawLedger: 'Its result is stored',
    overTitle: 'The server ended before the draw', overText: 'Its bets are stored, and it goes on with them when it starts again',
    failed: (why) => `The server failed: ${why}`,
    progressBefore: (n, of) => `${n} of ${of} agencies have reported`,
    progressAfter: (n, of) => `${n} of ${of} agencies have their winners`,
    missingBefore: 'Not reported yet', missingAfter: 'Without their winners yet',
    noneBefore: 'All agencies have reported.', noneAfter: 'All agencies have their winners.',
    more: (n) => `and ${n} more`,
    events: 'What happened',
    started: 'The server started', reportedEvent: (a) => `Agency ${a} has reported`, draw: 'The draw took place',
    servedEvent: (a) => `Agency ${a} has its winners`, leaderEvent: (s, t) => `Server ${s} leads, in term ${t}`,
    lost: 'No server leads', overEvent: 'The server ended', noEvents: 'Nothing yet.',
    servers: 'Servers', server: 'Server', role: 'Role', behind: 'Entries behind',
    term: (term, n) => `Term ${term} · ${n} entries committed`,
    leads: (s) => `Server ${s} leads`, tookOver: (s, time) => `Server ${s} took over after ${time}`,
    nobody: 'No leader: the servers elect one',
    leader: 'Leader', member: 'Member', learner: 'Learner', here: 'this one', away: 'not connected', unknown: 'not known',
    connecting: 'Connecting …', live: 'Live', lostLink: 'Connection lost, trying again',
    ended: 'The draw is over', endedOnly: 'The server has ended', saved: (time) => `Saved on ${time}`,
    lostAlarm: (time) => `The connection to the server is lost. This is how it was at ${time}.`,
    cell: (a, s) => `Agency ${a}: ${s}`, cellOf: (a, b, s) => `Agencies ${a} to ${b}, the last of them: ${s}`,
    hint: 'Point at a mark, or use the arrow keys, to see which agency it is.',
    furthest: (n) => `A mark stands for ${n} agencies, and shows the one that is furthest behind.`,
    sayDraw: (n) => `The draw has taken place. Winning bets: ${n}.`, back: 'Connected again.',
    sayReported: (n, of) => `${n} of ${of} agencies have reported.`,
  },
  es: {
    opening: 'Apertura', intake: 'Recepción', drawn: 'Sorteo', over: 'Fin', language: 'Idioma',
    betsStored: 'Apuestas guardadas', agenciesReported: 'Agencias que terminaron', winners: 'Apuestas ganadoras',
    rateNow: 'Apuestas por segundo', rateMean: 'Apuestas por segundo, en promedio',
    of: (n) => `de ${n}`,
    agencies: 'Agencias', agency: 'Agencia', state: 'Estado', bets: 'Apuestas', shout: '¡Sorteo!',
    w: 'En espera', u: 'Enviando', r: 'Terminó', s: 'Con resultados',
    rateOverTime: 'Apuestas por segundo a lo largo del tiempo', peak: (n) => `Máximo ${n}`, noSeries: 'No llegaron apuestas desde que arrancó el servidor',
    chart: (peak, time) => `Apuestas por segundo durante ${time}, con un máximo de ${peak}`,
    load: (connections, queue) => `Conexiones abiertas: ${connections} · Cola hacia el disco: ${queue} llena`,
    drawMark: 'sorteo',
    openingText: 'El servidor lee lo guardado y pronto recibirá apuestas',
    noLeaderText: 'Ningún servidor es líder, así que no se reciben apuestas. Los servidores eligen un líder',
    intakeTitle: 'Se reciben apuestas',
    intakeText: (n) => (n === '1' ? 'El sorteo se hace cuando la agencia termine' :
      `El sorteo se hace cuando terminen las ${n} agencias`),
    drawTitle: 'El sorteo se realizó',
    drawText: (time) => `A las ${time}`, drawEarlier: 'Fue antes de que arrancara este servidor', drawLedger: 'Su resultado está guardado',
    overTitle: 'El servidor terminó antes del sorteo', overText: 'Sus apuestas están guardadas, y seguirá con ellas cuando vuelva a arrancar',
    failed: (why) => `El servidor falló: ${why}`,
    progressBefore: (n, of) => `Terminaron ${n} de ${of} agencias`,
    progressAfter: (n, of) => `${n} de ${of} agencias tienen sus ganadores`,
    missingBefore: 'Aún sin terminar', missingAfter: 'Aún sin sus ganadores',
    noneBefore: 'Todas las agencias terminaron.', noneAfter: 'Todas las agencias tienen sus ganadores.',
    more: (n) => `y ${n} más`,
    events: 'Qué pasó',
    started: 'Arrancó el servidor', reportedEvent: (a) => `Terminó la agencia ${a}`, draw: 'Se realizó el sorteo',
    servedEvent: (a) => `Agencia ${a}: con resultados`, leaderEvent: (s, t) => `El servidor ${s} es líder, en el período ${t}`,
    lost: 'Ningún servidor es líder', overEvent: 'Terminó el servidor', noEvents: 'Todavía nada.',
    servers: 'Servidores', server: 'Servidor', role: 'Papel', behind: 'Entradas de atraso',
    term: (term, n) => `Período ${term} · ${n} entradas confirmadas`,
    leads: (s) => `El servidor ${s} es líder`, tookOver: (s, time) => `El servidor ${s} tomó el mando tras ${time}`,
    nobody: 'Sin líder: los servidores eligen uno',
    leader: 'Líder', member: 'Miembro', learner: 'Aprendiz', here: 'este', away: 'sin conexión', unknown: 'no se sabe',
    connecting: 'Conectando …', live: 'En vivo', lostLink: 'Conexión perdida, reintentando',
    ended: 'El sorteo terminó', endedOnly: 'El servidor terminó', saved: (time) => `Guardado el ${time}`,
    lostAlarm: (time) => `Se perdió la conexión con el servidor. Así estaba todo a las ${time}.`,
    cell: (a, s) => `Agencia ${a}: ${s}`, cellOf: (a, b, s) => `Agencias ${a} a ${b}, la más atrasada: ${s}`,
    hint: 'Apunte a una marca, o use las flechas, para ver qué agencia es.',
    furthest: (n) => `Cada marca representa ${n} agencias y muestra la más atrasada.`,
    sayDraw: (n) => `Se realizó el sorteo. Apuestas ganadoras: ${n}.`, back: 'Conexión recuperada.',
    sayReported: (n, of) => `Terminaron ${n} de ${of} agencias.`,
  },
};

const cardsMax = 30; // agencies that have a card each; more have a mark
const rowsMax = 10; // of a table or list, so that the page stays a page
const rateWindow = 1000; // ms over which "bets a second" counts
const retryMin = 500, retryMax = 8000; // ms between attempts to connect
const takeOverShown = 10000; // ms for which a take-over stands out
const letters = { waiting: 'w', uploading: 'u', reported: 'r', served: 's' };

const $ = (id) => document.getElementById(id);
const calm = matchMedia('(prefers-reduced-motion: reduce)');

let lang, t, format; // the language, its words, and its formats
let state = null; // the last one
let link = 'connecting'; // or live, lost, ended, saved
let clockAhead = 0; // ms by which the server's clock is ahead of the browser's
let at = 0; // the cell that the reader looks at

// ---- Words and formats

function speak(language) {
  lang = language;
  t = words[lang];
  // The browser's own variety, such as es-MX, knows how its reader writes numbers.
  const locale = navigator.languages.find((l) => l.toLowerCase().split('-')[0] === lang) ?? lang;
  const number = (options) => { const f = new Intl.NumberFormat(locale, options); return (n) => f.format(n); };
  const time = (options) => { const f = new Intl.DateTimeFormat(locale, { hourCycle: 'h23', ...options }); return (d) => f.format(new Date(d)); };
  const clock = { hour: '2-digit', minute: '2-digit', second: '2-digit' };
  const unit = (unit, digits) => number({ style: 'unit', unit, unitDisplay: 'short', maximumFractionDigits: digits });
  const ms = unit('millisecond', 0), s = unit('second', 2), min = unit('minute', 1), h = unit('hour', 1);
  format = {
    n: number({ maximumFractionDigits: 0 }),
    short: number({ notation: 'compact', maximumFractionDigits: 1 }),
    percent: number({ style: 'percent', maximumFractionDigits: 0 }),
    time: time({ ...clock, fractionalSecondDigits: 3 }),
    day: time({ dateStyle: 'medium', timeStyle: 'short' }),
    span: (d) => (d < 1000 ? ms(d) : d < 60e3 ? s(d / 1000) : d < 3600e3 ? min(d / 60e3) : h(d / 3600e3)),
  };
  document.documentElement.lang = lang;
  for (const e of document.querySelectorAll('[data-word]')) text(e, t[e.dataset.word]);
  for (const e of document.querySelectorAll('[data-label]')) set(e, 'aria-label', t[e.dataset.label]);
  for (const e of document.querySelectorAll('.languages button')) set(e, 'aria-pressed', String(e.value === lang));
}

// ---- Changes, only where something differs

function text(e, s) { if (e.textContent !== s) e.textContent = s; }
function set(e, name, value) { if (e.getAttribute(name) !== value) e.setAttribute(name, value); }
function make(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const name in attributes) e.setAttribute(name, attributes[name]);
  e.append(...children);
  return e;
}

// big shows one of the big numbers. beside is what stands beside it, at half of its size.
function big(id, number, beside = '') {
  text($(id), number);
  $(id).closest('dd').style.setProperty('--characters', number.length + (beside ? beside.length / 2 + 1 : 0));
}

// fill replaces the children of e if what they are made from has changed.
const filled = new WeakMap();
function fill(e, from, children) {
  const key = lang + JSON.stringify(from);
  if (filled.get(e) === key) return;
  filled.set(e, key);
  e.replaceChildren(...children());
}

// ---- What a state means

const isDrawn = (s) => s.phase === 'drawn' || Boolean(s.drawn_at) ||
  (s.phase === 'over' && s.agencies > 0 && s.reported + s.served === s.agencies);
const hasReported = (s) => s.reported + s.served;
const isLedger = (s) => s.started.startsWith('0001'); // a ledger has no times
const serverNow = () => (link === 'live' ? Date.now() + clockAhead : Date.parse(state.time));

// steps are the counts of the series from the first bet to the last.
function steps(series) {
  const bets = series?.bets ?? [];
  const first = bets.findIndex((n) => n > 0), last = bets.findLastIndex((n) => n > 0);
  return { bets, first, last, step: series?.step_ms || 1, start: Date.parse(series?.start ?? 0) };
}

// meanRate is bets a second between the first bet and the last.
function meanRate(s) {
  const { bets, first, last, step } = steps(s.series);
  if (first < 0) return null;
  return bets.reduce((a, b) => a + b, 0) * 1000 / ((last - first + 1) * step);
}

// rateNow is bets a second over the last second, or the time since the first bet if that is shorter.
function rateNow(s, now) {
  const { bets, first, last, step, start } = steps(s.series);
  if (first < 0) return 0;
  const window = Math.max(rateWindow, step * 2), from = now - window;
  let sum = 0;
  for (let i = last; i >= first; i--) {
    const begin = start + i * step, end = begin + step;
    if (end <= from) break;
    sum += bets[i] * Math.min(1, (end - from) / step);
  }
  return sum * 1000 / Math.max(step, Math.min(window, now - start - first * step));
}

// ---- The page

function show() {
  showLink();
  if (!state) return;
  const s = state, drawn = isDrawn(s);
  const order = ['opening', 'intake', 'drawn', 'over'];
  for (const e of $('phases').children) {
    const done = order.indexOf(e.dataset.phase) < order.indexOf(s.phase) && (e.dataset.phase !== 'drawn' || drawn);
    e.classList.toggle('done', done);
    if (e.dataset.phase === s.phase) set(e, 'aria-current', 'step'); else e.removeAttribute('aria-current');
  }
  big('bets', format.n(s.bets));
  big('reported', format.n(hasReported(s)), t.of(format.n(s.agencies)));
  text($('of'), t.of(format.n(s.agencies)));
  big('winners', drawn ? format.n(s.winners) : '–');
  showRate();
  showDraw(s, drawn);
  showCells(s);
  showMissing(s, drawn);
  showEvents(s);
  showCluster(s);
  for (const e of document.querySelectorAll('.grow')) e.hidden = isLedger(s); // chart and events
  text($('load'), link === 'live' ? t.load(format.n(s.connections), format.percent(s.queue_bytes / (s.queue_limit_bytes || 1))) : '');
  const title = drawn ? `${t.winners}: ${format.n(s.winners)}` : `${format.n(hasReported(s))}/${format.n(s.agencies)}`;
  if (document.title !== `${title} · Lotería`) document.title = `${title} · Lotería`;
}

function showLink() {
  const s = state;
  set($('link'), 'data-link', link);
  text($('link'), { connecting: t.connecting, live: t.live, lost: t.lostLink, ended: s && isDrawn(s) ? t.ended : t.endedOnly,
    saved: s ? t.saved(format.day(s.time)) : '' }[link]);
  $('alarm').hidden = link !== 'lost' || !s;
  text($('alarm'), link === 'lost' && s ? t.lostAlarm(format.time(s.time)) : '');
}

// showRate is called at each state, and each second: without bets there are no new states.
function showRate() {
  const mean = isDrawn(state) || state.phase === 'over' || link === 'saved';
  const rate = mean ? meanRate(state) : rateNow(state, serverNow());
  text($('rate-name'), mean ? t.rateMean : t.rateNow);
  big('rate', rate === null ? '–' : format.n(rate));
  showChart();
}

function showDraw(s, drawn) {
  const failed = s.outcome !== '';
  const at = s.drawn_at ? t.drawText(format.time(s.drawn_at)) : isLedger(s) ? t.drawLedger : t.drawEarlier;
  const noLeader = s.cluster && !s.cluster.leader;
  const [title, more] = drawn ? [t.drawTitle, at] :
    s.phase === 'over' ? [t.overTitle, t.overText] :
      s.phase === 'opening' ? [t.opening, noLeader ? t.noLeaderText : t.openingText] :
        [t.intakeTitle, t.intakeText(format.n(s.agencies))];
  $('draw').classList.toggle('drawn', drawn);
  $('draw').classList.toggle('failed', failed);
  text($('draw-title'), title);
  text($('draw-text'), failed ? `${t.failed(s.outcome)}. ${more}.` : `${more}.`);
  const done = drawn ? s.served : hasReported(s);
  text($('progress-text'), (drawn ? t.progressAfter : t.progressBefore)(format.n(done), format.n(s.agencies)));
  set($('progress'), 'aria-valuemax', String(s.agencies));
  set($('progress'), 'aria-valuenow', String(done));
  $('progress').firstElementChild.style.transform = `translateX(${done ? 100 * done / s.agencies - 100 : -101}%)`;
  balls($('draw').querySelector('.balls'), drawn ? Math.min(s.winners, 5) : 0);
}

function balls(e, n) {
  fill(e, n, () => Array.from({ length: n }, (_, i) => {
    const ball = make('span', { class: 'ball' });
    ball.style.setProperty('--nth', n - i);
    return ball;
  }));
}

// moment shows the draw over the whole screen, to those who watched it come.
function moment(s) {
  if (calm.matches) return;
  const e = $('moment');
  balls(e.querySelector('.balls'), Math.min(s.winners, 12));
  text(e.querySelector('.count'), `${t.winners}: ${format.n(s.winners)}`);
  e.hidden = false;
  e.addEventListener('animationend', (end) => { if (end.target === e) e.hidden = true; });
}

// ---- Agencies

let shownCells = null; // what the cells show, and in which language

function showCells(s) {
  for (const [i, count] of [s.waiting, s.uploading, s.reported, s.served].entries()) {
    const item = $('legend').children[i];
    text(item.querySelector('span'), t[item.dataset.state]);
    text(item.querySelector('b'), format.n(count));
  }
  const cells = $('cells'), n = s.cells.length, cards = n <= cardsMax && s.per_cell === 1;
  if (cells.childElementCount !== n || shownCells?.cards !== cards || (cards && shownCells.lang !== lang)) {
    shownCells = { cells: '', cards, lang };
    cells.className = cards ? 'cells cards' : 'cells marks';
    cells.replaceChildren(...Array.from({ length: n }, (_, i) => (cards ?
      make('div', { class: 'card' }, make('i', { class: 'mark' }), make('b', {}, format.n(i + 1)), make('small', {})) :
      make('i', { class: 'mark' }))));
    sizeCells();
    look(Math.min(at, Math.max(n - 1, 0)), false);
  }
  for (let i = 0; i < n; i++) {
    const letter = s.cells[i];
    if (letter === shownCells.cells[i]) continue;
    const cell = cells.children[i];
    if (!cards) { cell.dataset.state = letter; continue; }
    cell.firstElementChild.dataset.state = letter;
    text(cell.lastElementChild, t[letter]);
  }
  shownCells.cells = s.cells;
  set(cells, 'aria-valuemax', String(Math.max(n, 1)));
  look(at, shownAt);
}

// sizeCells makes the marks as big as the panel allows.
function sizeCells() {
  const cells = $('cells'), width = cells.clientWidth - 8;
  if (!cells.childElementCount || width <= 0) return;
  const size = Math.sqrt(width * Math.max(innerHeight * 0.34, 220) / cells.childElementCount) / 1.22;
  cells.style.setProperty('--cell', `${Math.max(9, Math.min(44, Math.floor(size)))}px`);
}

// look moves the reader's eye to a cell. visible: say what it is.
let shownAt = false;
function look(i, visible) {
  const cells = $('cells'), per = state.per_cell, letter = state.cells[i];
  cells.children[at]?.classList.remove('at');
  at = i;
  shownAt = visible;
  if (visible) cells.children[at]?.classList.add('at');
  const first = at * per + 1, last = Math.min(first + per - 1, state.agencies);
  const what = !letter ? '' : per > 1 ? t.cellOf(format.n(first), format.n(last), t[letter]) : t.cell(format.n(first), t[letter]);
  set(cells, 'aria-valuenow', String(at + 1));
  set(cells, 'aria-valuetext', what || t.noEvents);
  text($('readout'), visible ? what : per > 1 ? t.furthest(format.n(per)) : t.hint);
}

function keys(event) {
  const cells = $('cells').children, n = cells.length;
  const top = cells[0]?.offsetTop;
  const columns = Math.max(1, Array.prototype.findIndex.call(cells, (c) => c.offsetTop !== top));
  const row = cells[n - 1]?.offsetTop === top ? n : columns;
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - row, ArrowDown: at + row, PageUp: at - 10 * row,
    PageDown: at + 10 * row, Home: 0, End: n - 1 }[event.key];
  if (to === undefined || !n || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  look(Math.max(0, Math.min(n - 1, to)), true);
}

function hover(event) {
  const cell = event.target.closest('.cells > *');
  if (cell) look(Array.prototype.indexOf.call($('cells').children, cell), true);
}

function showMissing(s, drawn) {
  const rows = (s.missing ?? []).slice(0, rowsMax);
  const total = s.agencies - (drawn ? s.served : hasReported(s));
  text($('missing-title'), drawn ? t.missingAfter : t.missingBefore);
  text($('missing-count'), total > 0 ? format.n(total) : '');
  $('missing-table').hidden = rows.length === 0;
  fill($('missing'), rows, () => rows.map((a) => make('tr', {},
    make('th', { scope: 'row' }, format.n(a.id)),
    make('td', {}, make('i', { class: 'mark', 'data-state': letters[a.state] ?? '' }), t[letters[a.state]] ?? a.state),
    make('td', { class: 'number' }, format.n(a.bets)))));
  text($('missing-note'), total <= 0 ? (drawn ? t.noneAfter : t.noneBefore) :
    total > rows.length && rows.length > 0 ? t.more(format.n(total - rows.length)) : '');
}

// ---- Events and servers

function eventText(e) {
  return { started: t.started, reported: t.reportedEvent(format.n(e.agency)), draw: t.draw, served: t.servedEvent(format.n(e.agency)),
    leader: t.leaderEvent(e.server, e.term), lost: t.lost, over: t.overEvent }[e.kind] ?? e.kind;
}

// newest are the events to show, the newest first. Those of agencies leave room for all others: a
// thousand reports don't hide the draw.
function newest(all) {
  let room = rowsMax - Math.min(all.filter((e) => !e.agency).length, rowsMax - 1);
  return all.toReversed().filter((e) => !e.agency || room-- > 0).slice(0, rowsMax);
}

function showEvents(s) {
  const events = newest(s.events ?? []);
  fill($('events'), events, () => (events.length ? events.map((e) => make('li', { class: `${e.kind}-event` },
    make('time', { datetime: e.time }, format.time(e.time)), make('span', {}, eventText(e)))) : [make('li', { class: 'note' }, t.noEvents)]));
}

// gaps are the times without a leader. The last one may have no end.
function gaps(s) {
  const found = [];
  for (const e of s.events ?? []) {
    const open = found.at(-1);
    if (e.kind === 'lost' && (!open || open.end)) found.push({ begin: Date.parse(e.time) });
    if (e.kind === 'leader' && open && !open.end) Object.assign(open, { end: Date.parse(e.time), server: e.server });
  }
  return found;
}

function showCluster(s) {
  const c = s.cluster;
  $('cluster').hidden = !c;
  if (!c) return;
  text($('term'), t.term(format.n(c.term), format.n(c.committed)));
  const gap = gaps(s).at(-1);
  const took = gap?.end && gap.server === c.leader;
  const box = $('leader');
  box.classList.toggle('lost', !c.leader);
  box.classList.toggle('new', Boolean(took) && link === 'live' && serverNow() - gap.end < takeOverShown);
  text(box, !c.leader ? t.nobody : took ? t.tookOver(c.leader, format.span(gap.end - gap.begin)) : t.leads(c.leader));
  const servers = c.servers ?? [];
  fill($('servers'), [servers, c.leader, c.server], () => servers.map((m) => {
    const role = m.id === c.leader ? 'leader' : m.votes ? 'member' : 'learner';
    const id = make('th', { scope: 'row' }, String(m.id));
    if (m.id === c.server) id.append(make('span', { class: 'tag' }, t.here));
    if (m.addr) id.append(make('small', {}, ...m.addr.split(/(?<=[.:])/).flatMap((part) => [part, make('wbr')])));
    const what = make('td', {}, make('span', role === 'leader' ? { class: 'here' } : {}, t[role]));
    if (!m.connected && m.id !== c.server) what.append(make('small', { class: 'away' }, t.away));
    return make('tr', {}, id, what, make('td', { class: 'number' }, m.behind === null ? t.unknown : format.n(m.behind)));
  }));
}

// ---- The chart

const svg = (tag, attributes, words) => {
  const e = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const name in attributes) e.setAttribute(name, attributes[name]);
  if (words !== undefined) e.textContent = words;
  return e;
};

const nice = (rough) => {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
};
const times = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 10e3, 15e3, 30e3, 60e3, 120e3, 300e3, 600e3, 1800e3, 3600e3];

function showChart() {
  const { bets, first, last, step, start } = steps(state.series);
  const chart = $('chart'), width = chart.clientWidth, height = chart.clientHeight;
  if (first < 0) {
    text($('peak'), '');
    set(chart, 'aria-label', t.noSeries);
    fill(chart, [width, height], () => [svg('svg', {}), make('p', { class: 'note' }, t.noSeries)]);
    return;
  }
  // An empty step at each side shows where the bets begin and end, also if they came in one step.
  const going = state.phase === 'intake' && link === 'live';
  const to = going ? Math.max(last + 1, Math.floor((serverNow() - start) / step)) : last + 2;
  const from = first - Math.max(1, Math.round((to - first) * 0.02));
  const rates = [];
  for (let i = from; i < to; i++) rates.push((bets[i] ?? 0) * 1000 / step);
  const peak = Math.max(...rates), span = rates.length * step;
  text($('peak'), t.peak(format.n(peak)));
  set(chart, 'aria-label', t.chart(format.n(peak), format.span((last - first + 1) * step)));
  const lost = gaps(state);
  fill(chart, [width, height, from, rates, state.drawn_at, lost], () => {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const left = rem * 3.4, bottom = height - rem * 1.5, right = width - rem * 0.5, top = rem * 1.2;
    const unit = nice(peak / 3), high = Math.max(unit, Math.ceil(peak / unit) * unit);
    const x = (ms) => left + (ms / span) * (right - left), y = (rate) => bottom - (rate / high) * (bottom - top);
    const e = svg('svg', { 'aria-hidden': 'true' });
    for (let v = 0; v <= high; v += unit) {
      e.append(svg('path', { class: 'rule', d: `M${left} ${y(v)}H${right}` }),
        svg('text', { x: left - rem * 0.5, y: y(v) + rem * 0.28, 'text-anchor': 'end' }, format.short(v)));
    }
    const ticks = Math.max(2, Math.floor((right - left) / (rem * 6)));
    const every = times.find((d) => span / d <= ticks) ?? nice(span / ticks);
    const zero = (first - from) * step; // time counts from the first bet
    for (let d = 0; zero + d <= span; d += every) {
      e.append(svg('text', { x: x(zero + d), y: height - rem * 0.3, 'text-anchor': x(zero + d) > right - rem * 1.5 ? 'end' : 'middle' }, format.span(d)));
    }
    const begin = start + from * step, within = (ms) => Math.max(0, Math.min(span, ms - begin));
    for (const g of lost) {
      const a = x(within(g.begin)), b = x(within(g.end ?? Infinity));
      if (b > a) e.append(svg('rect', { class: 'gap', x: a, y: top, width: Math.max(2, b - a), height: bottom - top }));
    }
    const edge = rates.map((rate, i) => `${i ? 'V' : 'M' + left + ' '}${y(rate).toFixed(1)}H${x((i + 1) * step).toFixed(1)}`).join('');
    e.append(svg('path', { class: 'area', d: `${edge}V${bottom}H${left}Z` }), svg('path', { class: 'edge', d: edge }));
    if (state.drawn_at) {
      const a = x(within(Date.parse(state.drawn_at)));
      e.append(svg('path', { class: 'when', d: `M${a} ${top}V${bottom}` }),
        svg('text', { class: 'name', x: a - rem * 0.4, y: top - rem * 0.35, 'text-anchor': 'end' }, t.drawMark));
    }
    return [e];
  });
}

// ---- What is said aloud: what matters, and not every tick

function say(sentences) {
  if (sentences.length) $('live').textContent = sentences.join(' ');
}

function news(before, s) {
  const said = [];
  if (!before) return said;
  if (isDrawn(s) && !isDrawn(before)) said.push(t.sayDraw(format.n(s.winners)));
  const mark = (x) => (x.agencies > 10 ? Math.floor(hasReported(x) * 4 / x.agencies) : hasReported(x));
  if (mark(s) > mark(before)) said.push(t.sayReported(format.n(hasReported(s)), format.n(s.agencies)));
  if (s.cluster && s.cluster.leader !== before.cluster?.leader) said.push(s.cluster.leader ? t.leads(s.cluster.leader) + '.' : t.nobody + '.');
  return said;
}

// ---- The connection

function take(s, as) {
  const before = state, was = link;
  state = s;
  link = as;
  clockAhead = Date.parse(s.time) - Date.now();
  const said = news(before, s);
  if (was === 'lost' && as === 'live') said.unshift(t.back);
  if (as === 'ended') said.push(`${isDrawn(s) ? t.ended : t.endedOnly}.`);
  show();
  say(said);
  if (before && isDrawn(s) && !isDrawn(before)) moment(s);
}

function connect(delay) {
  const stream = new EventSource('events');
  stream.addEventListener('state', (event) => {
    delay = retryMin;
    const s = JSON.parse(event.data);
    take(s, s.phase === 'over' ? 'ended' : 'live'); // an earlier draw is shown
  });
  stream.addEventListener('bye', (event) => {
    stream.close();
    take(JSON.parse(event.data), 'ended');
  });
  stream.addEventListener('error', () => {
    // A stream that was refused isn't tried again by the browser, so all attempts are made here.
    stream.close();
    if (state?.phase === 'over') {
      take(state, 'ended');
      return;
    }
    if (link !== 'lost') {
      link = 'lost';
      show();
      say([state ? t.lostAlarm(format.time(state.time)) : t.lostLink]);
    }
    setTimeout(connect, delay * (0.75 + Math.random() / 2), Math.min(delay * 2, retryMax));
  });
}

const asked = new URLSearchParams(location.search).get('lang');
speak(asked in words ? asked : navigator.language.toLowerCase().startsWith('es') ? 'es' : 'en');
document.querySelector('.languages').addEventListener('click', (event) => {
  if (!event.target.value) return;
  speak(event.target.value);
  show();
});
$('cells').addEventListener('keydown', keys);
$('cells').addEventListener('focus', () => state && look(at, true));
$('cells').addEventListener('blur', () => state && look(at, false));
$('cells').addEventListener('pointermove', hover);
$('cells').addEventListener('pointerleave', () => state && document.activeElement !== $('cells') && look(at, false));
const resized = new ResizeObserver(() => { if (state) { sizeCells(); showChart(); } });
resized.observe($('chart'));
resized.observe(document.querySelector('main')); // the chart may be hidden

const written = $('state');
if (written) {
  take(JSON.parse(written.textContent), 'saved');
} else {
  show();
  connect(retryMin);
  setInterval(() => { if (state && link === 'live') showRate(); }, 1000);
}
