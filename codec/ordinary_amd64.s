#include "go_asm.h"
#include "textflag.h"

// The tail of a line, which follows its names, is "12345678|1990-05-23|1234567|". After subtracting
// tailZero, its digits have their values and its separators are zero.
DATA tailZero<>+0(SB)/8, $0x3030303030303030
DATA tailZero<>+8(SB)/8, $0x30302d303030307c
DATA tailZero<>+16(SB)/8, $0x303030307c30302d
DATA tailZero<>+24(SB)/8, $0x3030303030303030
GLOBL tailZero<>(SB), RODATA|NOPTR, $32

// The largest value that each byte may have then.
DATA tailMost<>+0(SB)/8, $0x0909090909090909
DATA tailMost<>+8(SB)/8, $0x0909000909090900
DATA tailMost<>+16(SB)/8, $0x0909090900090900
DATA tailMost<>+24(SB)/8, $0x0909090909090909
GLOBL tailMost<>(SB), RODATA|NOPTR, $32

// Offsets in a tail.
#define years     8  // "|1990-05"
#define days      12 // "0-05-23|"
#define number    20
#define numberMin 21 // the first place of the '|' after it; for 7 digits it is numberMore later
#define numberMore 6

// A line has at least this many bytes before its '\n'.
#define lineMin 27

// BROADCAST sets all bytes of Y to one; X is its lower half. VMOVQ clears the upper halves of vectors
// that it doesn't need. MOVQ would keep them, for which some processors take hundreds of cycles.
#define BROADCAST(byte, X, Y) \
	MOVL         $byte, AX \
	VMOVQ        AX, X     \
	VPBROADCASTB X, Y

// NAMES checks the 32 bytes of names at offset. Each result has a bit for each byte, the first
// byte's lowest:
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
	VPCMPGTB  Y0, Y10, Y3     \ // signed: ASCII is greater
	VPMOVMSKB Y3, follow      \
	VPADDB    Y11, Y0, Y4     \ // 0x7f and all above become negative or 0
	VPCMPGTB  Y12, Y4, Y4     \
	VPOR      Y2, Y3, Y3      \
	VPOR      Y3, Y4, Y4      \
	VPMOVMSKB Y4, right

// func scanVectors(r *ordinaryRun, p []byte) (n, count int)
//
//	SI   the line                   DI   r
//	R12  the next line, presumably  R13  the last address with a whole window
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
	// The processor can begin the next line before it finishes this one, because the next line
	// depends on nothing but the place of this '\n', and on no predicted branch.
	VMOVDQU   lineMin(SI), Y0
	VPCMPEQB  Y7, Y0, Y0
	VPMOVMSKB Y0, R12
	TZCNTL    R12, R12
	LEAQ      (lineMin+1)(SI)(R12*1), R12

	NAMES(0, R8, R9, R10, R11)
	BLSRQ R8, AX // all '|' but the first
	JEQ   longer

names:
	// AX has the second '|' and the later ones. Up to the second, the bytes that follow must be
	// exactly those after a lead, all bytes must be right, and no name may be empty.
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

	// AX is the first byte of the tail that is out of range. It must be the '|' after the number.
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

	// The line must end with the agency and '\n'.
	MOVQ 1(BX)(AX*1), R8
	ANDQ ordinaryRun_endMask(DI), R8
	CMPQ R8, ordinaryRun_end(DI)
	JNE  done

	// The number, with its last digit in the highest byte, must not win.
	MOVQ  $const_zeroDigits, R9
	XORQ  number(BX), R9
	LEAQ  (AX*8), R8
	NEGQ  R8
	ADDQ  $(8*number+64), R8
	SHLXQ R8, R9, R9
	CMPQ  R9, ordinaryRun_winning(DI)
	JEQ   done

	// The birthdate must be in an earlier year, and a real day.
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

	// The line is so long that its '\n' was not in the vector.
farther:
	MOVQ R8, SI
	JMP  next

	// The names are so long that the second '|' was not in the first vector.
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
