/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The tour of the memory, and the prompt. */
#include "demo.h"

struct place {
    u32 physical;
    const char *what;
};

static const struct place mips_places[] = {
    { 0x00000000, "RAM, its first word: the TLB refill vector" },
    { 0x00100000, "RAM, this program" },
    { 0x00fffef8, "RAM, the parameter block" },
    { 0x0ffffffc, "RAM, if there are 256 MiB" },
    { 0x100a0000, "ISA memory, VGA" },
    { 0x10fffffc, "ISA memory, its end" },
    { 0x14000000, "ISA ports from 0" },
    { 0x14000080, "ISA ports, 0x80" },
    { 0x140003fc, "ISA ports, the serial port" },
    { 0x1400fffc, "ISA ports, the last" },
    { 0x14010000, "behind the ISA ports" },
    { 0x18000000, "the gap before the reset register" },
    { 0x1fbf0000, "the reset register" },
    { 0x1fc00000, "firmware or flash" },
    { 0x1ffffffc, "firmware or flash, its end" },
};

static const struct place malta_places[] = {
    { 0x00000000, "RAM, its first word: the TLB refill vector" },
    { 0x00100000, "RAM, this program" },
    { 0x18000080, "ISA ports, 0x80" },
    { 0x180003fc, "ISA ports, the serial port" },
    { 0x1fc00010, "flash, the number of the board" },
};

static void look(u32 address, u32 size)
{
    u32 value, fault = probe_read(address, size, &value);
    switch (fault) {
    case 0:
        print("%08x", value);
        break;
    case EXC_DBE + 1:
        put_text("bus error");
        break;
    case EXC_ADEL + 1:
        put_text("address error");
        break;
    case EXC_TLBL + 1:
        put_text("not mapped");
        break;
    default:
        print("exception %u", fault - 1);
    }
}

void tour(void)
{
    const struct place *place = guest_board == BOARD_MIPS ? mips_places : malta_places;
    u32 count = guest_board == BOARD_MIPS ? sizeof mips_places / sizeof mips_places[0]
                                          : sizeof malta_places / sizeof malta_places[0];
    print("RAM: %u MiB (%08x bytes)\n", guest_ram_size >> 20, guest_ram_size);
    for (; count--; place++) {
        print("  %08x  ", place->physical);
        look(KSEG1(place->physical), 4);
        print("  %s\n", place->what);
    }
    /* The last word of RAM answers, the one behind it does not, unless something else begins there. */
    if (guest_ram_size != 0 && guest_ram_size <= 0x10000000) {
        print("  %08x  ", guest_ram_size - 4);
        look(KSEG1(guest_ram_size - 4), 4);
        print("  the last word of RAM\n  %08x  ", guest_ram_size);
        look(KSEG1(guest_ram_size), 4);
        print("  behind it\n");
    }
    print("  kuseg 00000000: ");
    look(0, 4);
    print("; kseg2 c0000000: ");
    look(0xc0000000, 4);
    print("; a word at an odd address: ");
    look(0x80000001, 4);
    print("\n");
}

/* Splits `line` at blanks in place. Gives how many words there are, at most `most`. */
static u32 split(char *line, char **words, u32 most)
{
    u32 n = 0;
    while (*line) {
        while (*line == ' ')
            *line++ = 0;
        if (*line && n < most)
            words[n++] = line;
        while (*line && *line != ' ')
            line++;
    }
    return n;
}

/* Hexadecimal, with or without 0x. */
static bool number(const char *text, u32 *value)
{
    u32 digits = 0;
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
        text += 2;
    for (*value = 0; *text; text++, digits++) {
        u32 digit = *text >= '0' && *text <= '9'   ? (u32)(*text - '0')
                    : *text >= 'a' && *text <= 'f' ? (u32)(*text - 'a' + 10)
                    : *text >= 'A' && *text <= 'F' ? (u32)(*text - 'A' + 10)
                                                   : 16;
        if (digit == 16 || digits == 8)
            return false;
        *value = *value << 4 | digit;
    }
    return digits > 0;
}

/* 1, 2 or 4 from an optional word. */
static bool width(u32 words, char **word, u32 at, u32 *size)
{
    *size = 4;
    if (words <= at)
        return true;
    *size = (u32)(word[at][0] - '0');
    return (*size == 1 || *size == 2 || *size == 4) && word[at][1] == 0;
}

static void run(char *line)
{
    char *word[4];
    u32 words = split(line, word, 4), address, value, size;
    if (words == 0)
        return;
    if (strcmp(word[0], "help") == 0) {
        put_text("help                        this\n"
                 "tour                        what answers where\n"
                 "peek ADDRESS [SIZE]         reads 1, 2 or 4 bytes; all numbers are hexadecimal, addresses virtual:\n"
                 "                            a0000000 and up shows the lowest 512 MiB uncached\n"
                 "poke ADDRESS VALUE [SIZE]   writes them\n"
                 "ticks                       how often the clocks have ticked\n"
                 "reset                       stores 42 to bfbf0000\n"
                 "halt                        stores 42 to bfbf0004\n");
    } else if (strcmp(word[0], "tour") == 0) {
        tour();
    } else if (strcmp(word[0], "ticks") == 0) {
        show_ticks();
    } else if (strcmp(word[0], "peek") == 0) {
        if (words < 2 || !number(word[1], &address) || !width(words, word, 2, &size)) {
            put_text("peek ADDRESS [1|2|4]\n");
            return;
        }
        print("%08x: ", address);
        look(address, size);
        put_char('\n');
    } else if (strcmp(word[0], "poke") == 0) {
        if (words < 3 || !number(word[1], &address) || !number(word[2], &value) || !width(words, word, 3, &size)) {
            put_text("poke ADDRESS VALUE [1|2|4]\n");
            return;
        }
        u32 fault = probe_write(address, size, value);
        if (fault != 0)
            print("%08x: %s (exception %u)\n", address, fault == EXC_DBE + 1 ? "bus error" : "refused", fault - 1);
    } else if (strcmp(word[0], "reset") == 0) {
        put_text("Reset.\n");
        guest_reset();
    } else if (strcmp(word[0], "halt") == 0) {
        put_text("Halt.\n");
        guest_halt();
    } else {
        print("'%s' is no command; help lists them\n", word[0]);
    }
}

void prompt(void)
{
    char line[80];
    for (;;) {
        u32 used = 0;
        put_text("> ");
        for (;;) {
            int c;
            while ((c = typed()) < 0)
                asm volatile("wait"); /* the clocks wake it up, so a character that comes just before is not missed for long */
            if (c == '\r' || c == '\n')
                break;
            if ((c == 8 || c == 127) && used > 0) {
                used--;
                put_text("\b \b");
            } else if (c >= ' ' && c < 127 && used + 1 < sizeof line) {
                line[used++] = (char)c;
                put_char((char)c);
            }
        }
        line[used] = 0;
        put_char('\n');
        run(line);
    }
}
