#include "go_asm.h"
#include "textflag.h"

// What a line has behind its names, "12345678|1990-05-23|1234567|". Less this,
// its digits have their values and its separators are zero.
DATA tailZero<>+0(SB)/8, $0x3030303030303030
DATA tailZero<>+8(SB)/8, $0x30302d303030307c
DATA tailZero<>+16(SB)/8, $0x303030307c30302d
DATA tailZero<>+24(SB)/8, $0x3030303030303030
GLOBL tailZero<>(SB), RODATA|NOPTR, $32

// The most that each byte may be then.
DATA tailMost<>+0(SB)/8, $0x0909090909090909
DATA tailMost<>+8(SB)/8, $0x0909000909090900
DATA tailMost<>+16(SB)/8, $0x0909090900090900
DATA tailMost<>+24(SB)/8, $0x0909090909090909
GLOBL tailMost<>(SB), RODATA|NOPTR, $32

// Where things stand in a tail.
#define years     8  // "|1990-05"
#define days      12 // "0-05-23|"
#define number    20
#define numberMin 21 // where its '|' can be first, and how much later: 7 digits
#define numberMore 6

// A line has at least this many bytes before its '\n'.
#define lineMin 27

// BROADCAST sets all bytes of Y to one; X is its lower half.
#define BROADCAST(byte, X, Y) \
	MOVL         $byte, AX \
	MOVQ         AX, X     \
	VPBROADCASTB X, Y

// NAMES judges the 32 bytes of names at offset. Each result has a bit for each
// byte, the first one's lowest:
//
//	pipe    it is '|'
//	lead    it is 0xc3, the first of two
//	follow  it is 10xxxxxx, the second of two
//	right   it is lead, follow or 0x20 to 0x7e
#define NAMES(offset, pipe, lead, follow, right) \
	VMOVDQU   offset(SI), Y0  \
	VPCMPEQB  Y8, Y0, Y1      \
	VPMOVMSKB Y1, pipe        \
	VPCMPEQB  Y9, Y0, Y2      \
	VPMOVMSKB Y2, lead        \
	VPCMPGTB  Y0, Y10, Y3     \ // signed, so that ASCII is more
	VPMOVMSKB Y3, follow      \
	VPADDB    Y11, Y0, Y4     \ // 0x7f and all above become negative or 0
	VPCMPGTB  Y12, Y4, Y4     \
	VPOR      Y2, Y3, Y3      \
	VPOR      Y3, Y4, Y4      \
	VPMOVMSKB Y4, right

// func scanVectors(r *ordinaryRun, p []byte) (n, count int)
//
//	SI   the line                   DI   r
//	R12  the next line, presumably  R13  the last place that has a window
//	BX   the line's tail            CX   count
TEXT ·scanVectors(SB), NOSPLIT, $0-48
	MOVQ r+0(FP), DI
	MOVQ p_base+8(FP), SI
	MOVQ p_len+16(FP), R13
	LEAQ -const_ordinaryWindow(SI)(R13*1), R13
	XORL CX, CX
	CMPQ SI, R13
	JHI  done

	BROADCAST('\n', X7, Y7)
	BROADCAST('|', X8, Y8)
	BROADCAST(0xc3, X9, Y9)
	BROADCAST(0xc0, X10, Y10)
	BROADCAST(0x01, X11, Y11)
	BROADCAST(0x20, X12, Y12)
	VMOVDQU tailZero<>(SB), Y13
	VMOVDQU tailMost<>(SB), Y14
	LEAQ    ·daysOfMonth(SB), DX

line:
	// The processor begins with the next line before it is done with this one
	// if it needs nothing of it but the '\n', and no guess.
	VMOVDQU   lineMin(SI), Y0
	VPCMPEQB  Y7, Y0, Y0
	VPMOVMSKB Y0, R12
	TZCNTL    R12, R12
	LEAQ      (lineMin+1)(SI)(R12*1), R12

	NAMES(0, R8, R9, R10, R11)
	BLSRQ R8, AX // all '|' but the first
	JEQ   longer

names:
	// AX has the second '|' and those behind it. Up to there, what follows must
	// be what a lead announces, all must be right, and no name may be empty.
	TZCNTQ  AX, BX
	BLSMSKQ AX, AX
	ADDQ    R9, R9
	XORQ    R9, R10
	NOTQ    R11
	ORQ     R11, R10
	LEAQ    1(R8)(R8*1), R9
	ANDQ    R8, R9
	ORQ     R9, R10
	TESTQ   AX, R10
	JNE     done
	LEAQ    1(SI)(BX*1), BX

	// The first byte of the tail that is not as it should be, AX, must be the
	// '|' behind the number.
	VMOVDQU   (BX), Y0
	VPSUBB    Y13, Y0, Y0
	VPMINUB   Y14, Y0, Y1
	VPCMPEQB  Y0, Y1, Y1
	VPMOVMSKB Y1, AX
	NOTL      AX
	TZCNTL    AX, AX
	LEAL      -numberMin(AX), R8
	CMPL      R8, $numberMore
	JHI       done
	CMPB      (BX)(AX*1), $'|'
	JNE       done

	// The agency and the line's end.
	MOVQ 1(BX)(AX*1), R8
	ANDQ ordinaryRun_endMask(DI), R8
	CMPQ R8, ordinaryRun_end(DI)
	JNE  done

	// The number, its last digit in the highest byte, does not win.
	MOVQ  $const_zeroDigits, R9
	XORQ  number(BX), R9
	LEAQ  (AX*8), R8
	NEGQ  R8
	ADDQ  $(8*number+64), R8
	SHLXQ R8, R9, R9
	CMPQ  R9, ordinaryRun_winning(DI)
	JEQ   done

	// The birthdate is in an earlier year and a day.
	MOVQ    years(BX), R8
	BSWAPQ  R8
	CMPQ    R8, ordinaryRun_year(DI)
	JCC     done
	MOVQ    $const_zeroDay, R9
	XORQ    days(BX), R9
	LEAQ    (R9)(R9*4), R8
	SHRQ    $8, R9
	LEAQ    (R9)(R8*2), R9 // two digits into one byte
	MOVQ    R9, R8
	SHRQ    $16, R8
	MOVBLZX R8B, R8
	SHRQ    $40, R9
	MOVBLZX R9B, R9
	MOVBLZX (DX)(R8*1), R8
	DECL    R9
	CMPL    R9, R8
	JCC     done

	INCQ CX
	LEAQ 1(BX)(AX*1), R8
	ADDQ ordinaryRun_endBytes(DI), R8
	MOVQ R12, SI
	CMPQ R8, R12
	JNE  farther

next:
	CMPQ SI, R13
	JLS  line

done:
	VZEROUPPER
	SUBQ p_base+8(FP), SI
	MOVQ SI, n+32(FP)
	MOVQ CX, count+40(FP)
	RET

	// The line is so long that its '\n' was not looked at.
farther:
	MOVQ R8, SI
	JMP  next

	// The names are so long that the second '|' was not looked at.
longer:
	NAMES(32, AX, BX, DX, R15)
	SHLQ   $32, AX
	ORQ    AX, R8
	SHLQ   $32, BX
	ORQ    BX, R9
	SHLQ   $32, DX
	ORQ    DX, R10
	SHLQ   $32, R15
	ORQ    R15, R11
	LEAQ   ·daysOfMonth(SB), DX
	BLSRQ  R8, AX
	TZCNTQ AX, BX
	CMPQ   BX, $const_ordinaryNameBytesMax
	JCS    names
	JMP    done
