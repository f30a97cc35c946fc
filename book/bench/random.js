// Random numbers that a seed repeats, in every browser: xoshiro128** (Blackman & Vigna 2018), and what is drawn with it.

export class Random {
  // Any number of whole numbers: seed, step, purpose. Other ones give another sequence.
  constructor(...key) {
    // Their digits are stirred into four words (the finalizer of MurmurHash3), none of which may all be zero.
    let word = 0x9e3779b9;
    const stir = (more) => {
      word = Math.imul(word ^ more, 0x85ebca6b);
      word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35);
      return (word ^= word >>> 16) >>> 0;
    };
    key.forEach(stir);
    this.state = Uint32Array.from([1, 2, 3, 4], stir);
    this.state[0] |= 1;
    this.spare = NaN;
  }

  // A whole number from 0 to 2³² − 1.
  word() {
    const s = this.state;
    const x = Math.imul(s[1], 5);
    const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 11) | (s[3] >>> 21);
    return result;
  }

  uniform(low = 0, high = 1) {
    return low + ((high - low) * (this.word() + 0.5)) / 4294967296;
  }

  // From N(0, 1), two at a time (Marsaglia's polar method).
  normal() {
    if (!Number.isNaN(this.spare)) {
      const kept = this.spare;
      this.spare = NaN;
      return kept;
    }
    let x, y, square;
    do {
      x = this.uniform(-1, 1);
      y = this.uniform(-1, 1);
      square = x * x + y * y;
    } while (square >= 1 || square === 0);
    const longer = Math.sqrt((-2 * Math.log(square)) / square);
    this.spare = y * longer;
    return x * longer;
  }

  // 0 … count − 1 in some order (Fisher & Yates).
  permutation(count) {
    const order = Uint16Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1; i > 0; i--) {
      const j = Math.floor(this.uniform(0, i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }
}
